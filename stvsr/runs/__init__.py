"""What makes a run repeatable: atomic files, hashes, device and seeds, time limit."""
