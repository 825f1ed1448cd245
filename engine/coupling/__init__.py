"""One simulator inside another: a gas whose collision rates molecular dynamics gives."""
