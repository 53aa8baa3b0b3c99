"""The run's description: schema, loading, resolution."""
