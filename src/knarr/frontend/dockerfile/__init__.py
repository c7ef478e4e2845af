"""The Dockerfile frontend: text → instructions → LLB, by the rules of BuildKit's frontend 1.26.

`parser.parse` reads the text into records (`instructions`), with every word as
written. `compile.compile` gives each platform its graph: `plan` finds the stages
and what they need, `bases` what they start from, and then each instruction is
compiled in turn: `runstep` and `runmount` for RUN, `filesteps` and `copysource`
for COPY, ADD and WORKDIR, `settings` for those that only change the image config.
Nothing is asked of the world but the bridge (`frontend.bridge`).
"""
