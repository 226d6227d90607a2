"""Pictures of a store and of a session: what is there, and does it look right?

``session_panels`` and ``store_panels`` compute what is shown, as plain arrays; ``draw_session`` and ``draw_store``
make figures of it; ``page`` puts figures and tables into one HTML file that needs no network.
"""
