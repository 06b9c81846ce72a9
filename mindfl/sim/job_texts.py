"""The texts of a job whose model script is AlbertClient: a data set made of them in the work folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mindfl.data import Dataset, convert_text, open_dataset
from mindfl.data.folder import recovered
from mindfl.data.labelled_lines import find_texts
from mindfl.data.text_dataset import with_vocabulary
from mindfl.files import file_digest
from mindfl.sim.config import JobConfig


def texts_of_job(config: JobConfig, folder: Path, *, progress: bool) -> Dataset:
    """Return the data set of the texts in ``folder``, with the job's vocabulary files.

    It is made in the work folder, once for the same texts and settings. Raises :class:`DataError` if there are no
    usable texts, and :class:`StorageError`.
    """
    files = with_vocabulary(find_texts(folder), config.vocal_file, config.ids_file)
    digest = hashlib.sha256(str(config.seed).encode())
    others = (("/test", files.test), ("/vocabulary", files.vocabulary), ("/ids", files.ids))  # no user has such a name
    for name, path in (*files.users.items(), *others):
        digest.update(f"{name}:{'' if path is None else file_digest(path)};".encode(errors="surrogatepass"))
    output = config.work_dir / "data" / f"texts_{digest.hexdigest()[:12]}"
    if not recovered(output):
        convert_text(
            folder,
            output,
            vocal_file=config.vocal_file,
            ids_file=config.ids_file,
            seed=config.seed,
            progress=progress,
        )
    return open_dataset(output)
