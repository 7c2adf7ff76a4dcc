"""Files of a run that is kept in an object store: each node has a mirror of it, and a path there says by itself which object it is."""
