"""What make runs and deploys; nothing here is imported by relay, executor or common."""
