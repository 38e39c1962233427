"""What pyproject.toml has no words for: the wheel holds tools/ and configs/ as folders of the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["psa_pose*"]), "psa_pose.tools", "psa_pose.configs"],
    package_dir={"psa_pose.tools": "tools", "psa_pose.configs": "configs"},
    package_data={"psa_pose.configs": ["**/*.yaml"]},
)
