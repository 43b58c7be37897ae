"""Jobs whose folders the real executable writes with tiny models."""

import json
import shutil
from pathlib import Path

from aiida.common.folders import SandboxFolder
from aiida.common.links import LinkType
from aiida.orm import CalcJobNode, Data, FolderData, load_node
from aiida.plugins import ParserFactory

from aiida_dosmatgen.core.job import sha256_of
from aiida_dosmatgen.data.forcefield import ForceFieldData
from aiida_dosmatgen.engine.cli import main

SIZES = {"denoiser": {"width": 16, "layers": 1, "frequencies": 2}, "predictor": {"width": 16, "layers": 1, "members": 1}}
SIZES["classifier"] = SIZES["denoiser"]


class Job:
    """A job as the scheduler would run it: prepared by the CalcJob, run by the executable, retrieved, parsed."""

    def __init__(self, process, folder: Path, capfd) -> None:
        self.process, self.folder, self.capfd = process, folder, capfd
        with SandboxFolder() as sandbox:
            self.info = process.prepare_for_submission(sandbox)
            shutil.copytree(sandbox.abspath, folder)
        for uuid, key, name in self.info.local_copy_list:
            with load_node(uuid).base.repository.open(key, "rb") as stream:
                (folder / name).write_bytes(stream.read())

    def run(self, *arguments: str) -> int:
        kind, job = self.info.codes_info[0].cmdline_params
        status = main([kind, str(self.folder / job), *arguments])
        (self.folder / "dosmatgen.err").write_text(self.capfd.readouterr().err)
        return status

    def parse(self, scheduler_status: int | None = None):
        process = self.process
        node = CalcJobNode(computer=process.inputs.code.computer, process_type=process.node.process_type)
        for name, value in process.options.items():
            node.set_option(name, value)
        given = {link: value for link, value in process.inputs.items() if link != "metadata"}
        for namespace in [link for link, value in given.items() if not isinstance(value, Data)]:
            given |= {f"{namespace}__{name}": value for name, value in given.pop(namespace).items()}
        for link, value in given.items():
            value if value.is_stored else value.store()
            node.base.links.add_incoming(value, LinkType.INPUT_CALC, link)
        node.store()
        if scheduler_status is not None:
            node.set_exit_status(scheduler_status)
            node.set_exit_message("what the scheduler saw")
        retrieved = FolderData()
        for name in [*self.info.retrieve_list, process.options.scheduler_stderr]:
            if (self.folder / name).exists():
                retrieved.base.repository.put_object_from_file(str(self.folder / name), name)
        retrieved.base.links.add_incoming(node, LinkType.CREATE, "retrieved")
        retrieved.store()
        parser = ParserFactory(process.options.parser_name)
        return parser.parse_from_node(node, store_provenance=False)

    def results(self, **changes) -> None:
        """Change what ``results.json`` says."""
        path = self.folder / "results.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def lennard_jones():
    return ForceFieldData.from_calculator("ase.calculators.lj:LennardJones", sigma=2.0, rc=5.0, smooth=True)


def replace_output(job, name, content):
    """Put other crystals where the output was, with the right hash."""
    content.save(job.folder / name)
    job.results(output_sha256=sha256_of(job.folder / name))
