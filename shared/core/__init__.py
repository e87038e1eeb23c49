"""What everything stands on: errors, cache, machine, clocks, arrays on disk, progress."""
