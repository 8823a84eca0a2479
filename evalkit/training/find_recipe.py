"""Recipes by name: registered ones, among them evalkit's `recipes/<method>-<name>.yaml`, or a file of the reader's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources

from evalkit.errors import DataError, UnknownNameError, spelled
from evalkit.files.read import model_from_yaml, read_text
from evalkit.registry import YAML, Registry
from evalkit.training.recipe import Recipe


def parse(text: str, where: str) -> Recipe:
    """A recipe from YAML text. Raises DataError naming field and mistake."""
    return model_from_yaml(Recipe, text, f"the recipe {where}")


def read_recipe_file(path: str | os.PathLike[str]) -> Recipe:
    """A recipe from a YAML file. Raises DataError where it cannot be read, naming file, field and mistake."""
    try:
        text = read_text(path)
    except DataError as error:
        raise DataError(f"cannot read the recipe {path}: {error}") from None
    return parse(text, os.fspath(path))


RECIPES: Registry[Recipe] = Registry("recipe", "evalkit.training.find_recipe", read_recipe_file)


def register_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Add a recipe, for a network of evalkit or one that `register_system` makes trainable.

    Raises:
        DataError: the file cannot be read, or a field is missing, unknown or wrong.
        EvalkitError: the method has a recipe of that name.
    """
    recipe = read_recipe_file(path)
    RECIPES.add(f"{recipe.method}-{recipe.name}", recipe)
    return recipe


def register_shipped() -> None:
    """Register the recipes that evalkit has: `recipes/*.yaml`."""
    folder = resources.files("evalkit.training").joinpath("recipes")
    for file in sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name):
        recipe = parse(file.read_text(encoding="utf-8"), file.name)
        RECIPES.add(f"{recipe.method}-{recipe.name}", recipe)


def recipes() -> Mapping[str, Recipe]:
    """All registered recipes as "<method>-<name>"."""
    return RECIPES


def trainable() -> list[str]:
    """Methods that have recipes."""
    return sorted({recipe.method for recipe in RECIPES.values()}, key=str.casefold)


def load_recipe(method: str, name: str = "small", variant: str = "") -> Recipe:
    """A method's recipe by name (paper, small), or from a YAML file.

    Args:
        method: in any case.
        name: of a registered recipe, or the path of a file that ends in .yaml or .yml.
        variant: a row of the paper's ablation.

    Raises:
        UnknownNameError: a method without recipes, a name that the method has no recipe of, an unknown variant.
        DataError: a file that cannot be read or is not a recipe of this method.
    """
    if name.lower().endswith(YAML):
        recipe = read_recipe_file(name)
        if recipe.method.casefold() != method.casefold():
            raise DataError(f"{name} is a recipe for {recipe.method}, not for {method}.")
        return _varied(recipe, variant)
    method = spelled("trainable method", method, trainable())
    own = {recipe.name: recipe for recipe in RECIPES.values() if recipe.method == method}
    if name not in own:
        raise UnknownNameError(f"recipe of {method}", name, own, "A file of your own ends in .yaml.")
    return _varied(own[name], variant)


def label(recipe: Recipe) -> str:
    """How a record names a recipe: by its name only where it is the registered one of that name."""
    own = RECIPES.get(f"{recipe.method}-{recipe.name}")
    same = own and _varied(own, recipe.variant)
    if same and same.hash == recipe.hash:
        return recipe.name
    if same and same.model_copy(update={"data": recipe.data}).hash == recipe.hash:
        return f"{recipe.name} on {', '.join(recipe.data.datasets)}"
    return f"{recipe.name} (custom recipe {recipe.hash[:8]})"


def _varied(recipe: Recipe, variant: str) -> Recipe:
    if not variant:
        return recipe
    from evalkit.training.system import system_class  # needs torch, without which recipes can be listed

    return system_class(recipe.method).varied(recipe.model_copy(update={"variant": variant}))
