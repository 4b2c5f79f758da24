from utils.errors import suggestion


def test_the_most_similar_names_are_suggested():
    assert suggestion("gta", ["cityscapes", "gtav"]) == "; did you mean gtav?"
    assert suggestion("DeepR50", ["DeepR50V2", "DeepR50V3", "x"]) == "; did you mean DeepR50V3 or DeepR50V2?"
    assert suggestion("quantum", ["cityscapes", "gtav"]) == ""
