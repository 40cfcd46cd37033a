from __future__ import annotations

from export import spec


def test_a_class_count_finds_its_label_set_and_invents_one_where_there_is_none():
    assert spec.label_set(11, spec.VOC) is spec.CAMVID
    assert spec.label_set(21, spec.CAMVID) is spec.VOC
    four = spec.label_set(4, spec.CAMVID)
    assert four.names == ("class 0", "class 1", "class 2", "class 3")
    assert four.palette == spec.VOC.palette[:4]  # the devkit's own colours, by its own rule


def test_every_label_set_has_one_colour_a_class_and_no_colour_twice():
    for labels in (spec.CAMVID, spec.CITYSCAPES, spec.VOC):
        assert len(labels.names) == len(labels.palette) == len(set(labels.palette))
