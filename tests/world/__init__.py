"""The world told and held to what it promises: seeds, fences, one hash, and a harness that finds what is planted."""
