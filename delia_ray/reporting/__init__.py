"""Reports of runs, experiments, pools and probes: one JSON record and one self-contained HTML page each, and tables for the terminal."""
