"""The built-in rollout policies: each plans the steps of a rollout and sets their order and pace."""
