"""`moorgate manifest`: would these manifests be admitted? Asked before they are applied, in a pipeline for instance.

`files` reads manifests into workloads; `rules` says what judges them, `verdicts` what Anchore says of their images; `judging`
puts both together by the gateways' own decision; `text` is what a person reads, `command` the command.
"""
