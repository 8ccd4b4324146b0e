from models.result_file import first_difference


def test_the_first_difference_is_named_with_both_values() -> None:
    old = {"lr": 0.1, "head": {"k": 2, "name": "a"}, "gone": 1}
    assert first_difference(old, dict(old)) is None
    assert first_difference(old, {**old, "lr": 0.2}) == "lr (0.1, now 0.2)"
    assert first_difference(old, {**old, "head": {"k": 3, "name": "a"}}) == "head.k (2, now 3)"
    assert first_difference(old, {"lr": 0.1, "head": old["head"]}) == "gone (1, now None)"
