"""Memory of one training worker, estimated from the model's configuration before anything is loaded."""
