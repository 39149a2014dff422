"""How the course is made: run, store, render and measure it. Nothing else imports it."""
