"""State to look at: text in the formats of procfs and sysfs, and core files."""
