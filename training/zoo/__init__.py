"""The zoo: generators that this project builds and trains itself, so that every label is exact.

`space` draws configs, `build` trains a generator from each, `inspection` reads its labels off the trained module, and `files` stores its
pictures. `python -m training zoo build --help` explains the options.
"""
