"""OpenTelemetry traces of builds: a span for the build and one for each step.

`span` makes them of what a build has told, `stub` writes them as BuildKit's history
has them, `otlp` as OpenTelemetry's protocol does, and `send` takes those to a
collector, where `settings` (OTEL_… in the environment) names one. Nothing of it is
imported where no trace is wanted.
"""
