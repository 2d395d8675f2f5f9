"""`make simulate`: the whole system in one process under a virtual clock; one seed is one run."""
