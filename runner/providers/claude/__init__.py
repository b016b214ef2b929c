"""Claude Code as a provider, driven through claude-agent-sdk; no other folder knows either."""
