"""The test kit, as users have it."""
