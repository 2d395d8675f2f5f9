"""The executor killed by SIGKILL at every boundary, and a checker that reads what the broker and the journal wrote down."""
