"""What lint found, in each form that it is asked for: text, a diff, JSON, SARIF, and commands of GitHub."""
