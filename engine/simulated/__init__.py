"""A machine on modelled processors: TLBs with tags, a table of costs, and a clock that only charges advance."""
