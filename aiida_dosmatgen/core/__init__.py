"""The base of the engine and the AiiDA side: crystals, densities of states, thermochemistry, job files (without torch)."""
