"""Which page frame holds which page: frames, page maps, memory objects, faults, eviction and swap (below all regions)."""
