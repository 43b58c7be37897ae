"""What the jobs of the executable ``dosmatgen`` have in common."""

from __future__ import annotations

from typing import Any, TypeAlias

from aiida.common import CalcInfo, CodeInfo
from aiida.engine import CalcJob
from aiida.orm import Data, Dict, ProcessNode, RemoteData

from ..aiida_internals.nodes import Folder, leave_out_of_hash
from ..aiida_internals.one_worker import OneWorkerMixin
from ..core.job import Job, Runtime
from .ports import port_from_field

JOB_FILE = "job.json"
RESULTS_FILE = "results.json"
STDOUT_FILE = "dosmatgen.out"
STDERR_FILE = "dosmatgen.err"

_PREVIOUS = "previous"  # the work directory of the run before, as this one sees it
_SHARE_OF_WALLTIME = 0.95

Files: TypeAlias = list[tuple[Data, str]]
"""Nodes that hold a file, each with the name that the job file calls it."""


class DosmatgenCalculation(OneWorkerMixin, CalcJob):
    """One job of the executable ``dosmatgen``: files in, ``job.json`` written, output and ``results.json`` back.

    Subclasses name the ``KIND`` of the job and say in :meth:`job` what goes into the job file.
    """

    KIND = ""
    CACHE_VERSION = 1

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = f"dosmatgen.{cls.KIND}"
        options["input_filename"].default = JOB_FILE
        options["output_filename"].default = STDOUT_FILE
        options["resources"].default = {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        options["withmpi"].default = False
        for name in ("batch_size", "device", "threads"):
            spec.input(f"metadata.options.{name}", **port_from_field(Runtime, name))
        spec.input(
            "parent_folder",
            valid_type=RemoteData,
            required=False,
            help="Work directory of an interrupted run of the same job; it continues from the restart files there.",
        )
        spec.output("results", valid_type=Dict, help="What the job says about itself: versions, hashes, counts, seconds.")
        spec.inputs.validator = cls.validate_all
        spec.exit_code(
            201,
            "ERROR_BAD_INPUT",
            message="The executable refused its input: {message}",
            invalidates_cache=True,
        )
        spec.exit_code(
            301,
            "ERROR_NO_RESULTS",
            message="The job ended without a whole results.json: it was killed. {message}",
            invalidates_cache=True,
        )
        spec.exit_code(
            302,
            "ERROR_HASH_MISMATCH",
            message="{message}; the file was cut or changed on its way, submit the job again.",
            invalidates_cache=True,
        )
        spec.exit_code(
            303,
            "ERROR_UNREADABLE_OUTPUT",
            message="The output cannot be used: {message}",
            invalidates_cache=True,
        )
        spec.exit_code(
            304,
            "ERROR_CRASHED",
            message="The executable crashed: {message}",
            invalidates_cache=True,
        )
        spec.exit_code(
            401,
            "ERROR_STOPPED_EARLY",
            message="Stopped by the time limit with {done} of {of} done, which are attached; give more time for the rest.",
            invalidates_cache=True,
        )

    @classmethod
    def get_or_create_db_record(cls) -> ProcessNode:
        """Return the node of a job; its hash leaves out ``parent_folder``, which does not change the results."""
        node = super().get_or_create_db_record()
        leave_out_of_hash(node, "parent_folder")
        return node

    @classmethod
    def validate_all(cls, inputs: Any, ports: Any) -> str | None:
        """Validate the inputs together: what every ``CalcJob`` checks, then :meth:`validate_inputs`."""
        return what_aiida_refuses(inputs, ports) or _validate_parent(inputs) or cls.validate_inputs(inputs)

    @classmethod
    def validate_inputs(cls, inputs: Any) -> str | None:
        """Say what does not fit together, or None. Ports may be missing where an outer work chain excludes them."""

    def job(self) -> tuple[Job, Files]:
        """Return the job file, and the nodes whose files it needs, each with the name the job file calls it."""
        raise NotImplementedError

    def command_line(self) -> list[str]:
        """Return further arguments of the executable."""
        return []

    def retrieved_files(self, job: Any) -> list[str]:
        """Return the names of further files that come back, where there are any."""
        return []

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the job file, and list what is copied and retrieved."""
        job, files = self.job()
        with folder.open(self.options.input_filename, "w", encoding="utf-8") as handle:
            handle.write(job.model_dump_json(indent=1))
        code = CodeInfo()
        code.code_uuid = self.inputs.code.uuid
        code.cmdline_params = [self.KIND, self.options.input_filename, *self.command_line()]
        code.stdout_name = self.options.output_filename
        code.stderr_name = STDERR_FILE
        info = CalcInfo()
        info.codes_info = [code]
        info.local_copy_list = [(node.uuid, node.base.repository.list_object_names()[0], name) for node, name in files]
        if "parent_folder" in self.inputs:
            parent = self.inputs.parent_folder
            info.remote_symlink_list = [(parent.computer.uuid, parent.get_remote_path(), _PREVIOUS)]
        outputs = [getattr(job, field) for field in ("output", "history") if hasattr(job, field)]
        info.retrieve_list = [*outputs, *self.retrieved_files(job), RESULTS_FILE, self.options.output_filename, STDERR_FILE]
        return info

    def runtime(self) -> Runtime:
        """Return how the job runs, from the options; its time budget is what the walltime leaves."""
        walltime = self.options.get("max_wallclock_seconds", None)
        return Runtime(
            batch_size=self.options.get("batch_size", None),
            device=self.options.device,
            threads=self.options.get("threads", None),
            max_seconds=_SHARE_OF_WALLTIME * walltime if walltime else None,
            continue_from=_PREVIOUS if "parent_folder" in self.inputs else None,
        )


def what_aiida_refuses(inputs: Any, ports: Any) -> str | None:
    """Validate the inputs of a job as every ``CalcJob`` does."""
    validator = CalcJob.spec().inputs.validator
    return validator(inputs, ports) if validator else None


def _validate_parent(inputs: Any) -> str | None:
    parent, code = inputs.get("parent_folder", None), inputs.get("code", None)
    if parent is None or code is None or getattr(code, "computer", None) is None or parent.computer.pk == code.computer.pk:
        return None
    return f"parent_folder lies on {parent.computer.label}, but the job runs on {code.computer.label}; leave it out"
