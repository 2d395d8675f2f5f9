"""An exhaustive search over the executor's pure core: every state that crashes, losses and chance can lead to."""
