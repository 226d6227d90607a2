"""Pictures of a run and of its scores, on the pages of `nhdata.report`.

``kept`` reads what a run left in its folder; ``draw_training`` and ``draw_scores`` make panels of it; ``pages`` puts
them together, for a file or for ``nhdata serve``.
"""
