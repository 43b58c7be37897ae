"""What both wings stand on: crystals, densities of states, thermochemistry, job files (numpy and pydantic only)."""
