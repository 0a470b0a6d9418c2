"""A generator carries the identity of the clips it was trained on, and of its start's."""

import pytest
import tiny
from vimeo_tree import names, write_vimeo

from stvsr.data.clips import load_clips, shrink_clip
from stvsr.data.seen import VIMEO_TRAIN, known_by, require_unseen, seen, trained_on
from stvsr.errors import InputError
from stvsr.models.generators import build_generator, save_generator


@pytest.fixture
def clips(tmp_path):
    return load_clips(str(tiny.write_clips(tmp_path / "clips", 4)))


def saved(path, known):
    save_generator(path, build_generator("rbpn-tiny"), trained_on=known)
    return str(path)


def test_training_clips_are_recognised_and_others_are_not(tmp_path, clips):
    weights = saved(tmp_path / "g.safetensors", trained_on(clips[:2], ""))
    assert seen(weights, clips) == ["clip0", "clip1"]


def test_validation_clips_that_are_trained_on_are_refused(clips):
    require_unseen(clips[2:], clips[:2])
    with pytest.raises(InputError, match=r"clip clip1 validates and is trained on: name other sources in validation"):
        require_unseen(clips[1:], [shrink_clip(clip, 1.5) for clip in clips[:2]])


def test_a_clip_is_recognised_under_another_name_and_after_shrinking(tmp_path, clips):
    weights = saved(tmp_path / "g.safetensors", trained_on([shrink_clip(clips[0], 1.5)], ""))
    (clips[0].source).rename(tmp_path / "clips" / "renamed")
    assert seen(weights, load_clips(str(tmp_path / "clips"))) == ["renamed"]


def test_a_generator_knows_what_its_start_was_trained_on(tmp_path, clips):
    first = saved(tmp_path / "first.safetensors", trained_on(clips[:1], ""))
    second = saved(tmp_path / "second.safetensors", trained_on(clips[2:3], first))
    assert seen(second, clips) == ["clip0", "clip2"]


def test_shots_of_one_video_are_different_clips(tmp_path):
    shots = load_clips("samples:bikes")
    weights = saved(tmp_path / "g.safetensors", trained_on(shots[:1], ""))
    assert seen(weights, shots) == [shots[0].name]


def test_published_basicvsr_was_trained_on_the_official_training_list(tmp_path):
    root = write_vimeo(tmp_path / "v", train=names(2)[:1], test=names(2)[1:], frames=False)
    clips = load_clips(str(root))
    assert seen("basicvsr-bi", clips) == [names(1)[0]]
    tuned = saved(tmp_path / "g.safetensors", trained_on([], "basicvsr-bi"))
    assert known_by(tuned) == [VIMEO_TRAIN]
    assert seen(tuned, clips) == [names(1)[0]]


def test_weights_that_record_nothing_are_not_accused(clips):
    assert seen("rbpn-small", clips) == []
    assert seen("", clips) == []
