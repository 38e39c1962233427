"""One process alone: what a progress bar shows, and where."""

import io

import pytest

from psa_pose.distributed import progress_bar


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Screen, True), (io.StringIO, False)])
def test_a_bar_is_shown_on_a_terminal_and_in_no_file(monkeypatch, stream, shown):
    written = stream()
    monkeypatch.setattr("sys.stderr", written)
    assert list(progress_bar(iter(range(3)), "some", 3)) == [0, 1, 2]
    with progress_bar(total=5, initial=2, unit="step") as bar:
        bar.update(3)
    assert ("some: 100%" in written.getvalue()) == ("5/5" in written.getvalue()) == bool(written.getvalue()) == shown
