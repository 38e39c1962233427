"""The schema of every option, and how a file and a command line become one frozen config."""

from psa_pose.config.load import dump_config, load_config, parse_config

__all__ = ["dump_config", "load_config", "parse_config"]
