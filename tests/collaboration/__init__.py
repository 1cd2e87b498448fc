"""Parts of offloop working together: sessions, pools and the event loops that share them."""
