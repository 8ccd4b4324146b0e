"""What errors say on a terminal."""

from bench.errors import printable


def test_what_a_terminal_would_obey_is_not_sent_to_it():
    assert printable("é \N{MULTIPLICATION SIGN} ok") == "é \N{MULTIPLICATION SIGN} ok"
    assert printable("\x1b[2Ja\nb\u202e\udc80") == "?[2Ja?b??"
