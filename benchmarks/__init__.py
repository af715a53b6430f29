"""Measurements as ratios: ours and a peer, in the same run, in turns."""
