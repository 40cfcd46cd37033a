from __future__ import annotations

from calibration.data import label_sets


def test_a_class_count_finds_its_label_set_and_invents_one_where_there_is_none():
    assert label_sets.label_set(11, label_sets.VOC) is label_sets.CAMVID
    assert label_sets.label_set(21, label_sets.CAMVID) is label_sets.VOC
    four = label_sets.label_set(4, label_sets.CAMVID)
    assert four.names == ("class 0", "class 1", "class 2", "class 3")
    assert four.palette == label_sets.VOC.palette[:4]  # the devkit's own colours, by its own rule


def test_every_label_set_has_one_colour_a_class_and_no_colour_twice():
    for labels in (label_sets.CAMVID, label_sets.CITYSCAPES, label_sets.VOC):
        assert len(labels.names) == len(labels.palette) == len(set(labels.palette))
