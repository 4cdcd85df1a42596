"""Who asks and what they may do: API keys, the policy, the first admin key, the fence against guessing, denials."""
