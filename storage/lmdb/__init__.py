"""The store on LMDB: a log of chunks, page maps that follow it, layers, and the chores that keep it small."""
