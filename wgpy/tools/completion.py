"""Tab completion for shells: `eval "$(wgpy completion bash)"`."""
