"""The command line: one module per verb, each with ``main(argv)``; ``tools/*.py`` call the same."""
