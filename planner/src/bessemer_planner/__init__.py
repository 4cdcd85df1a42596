"""The planner: what hardware, how much, whose, and when. A pure library: values in, a `Plan` out.

It needs numpy, scipy, msgspec and Jinja2; nothing of Bessemer. Modules, in the order in which a plan uses them:
`catalog` (what exists and what it costs), `workload` (what is asked for), `performance` (how fast), `simulator`
(request by request), `fleet` (how many of which), `economics` (whose, and when it pays), `plan` (all of it), `report`,
`claims`.
"""
