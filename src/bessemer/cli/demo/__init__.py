"""`bessemer demo`: one turn of the flywheel, acted out by an application through public interfaces alone."""
