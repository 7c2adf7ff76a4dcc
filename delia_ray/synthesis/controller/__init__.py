"""The diversity controller of query generation: plans waves of queries and adapts the topics. Pure functions."""
