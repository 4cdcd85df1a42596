"""Who asks and what they may do: principals, API keys, the first admin key, the fence against guessing."""
