"""Recipes by name: the built-in `recipes/<method>-<name>.yaml`, or a file of the reader's."""

from __future__ import annotations

from functools import cache
from importlib import resources

from evalkit.errors import DataError, UnknownNameError
from evalkit.files.read import model_from_yaml, read_text
from evalkit.training.recipe import Recipe


@cache
def recipes() -> dict[str, Recipe]:
    """The built-in recipes as "<method>-<name>"."""
    folder = resources.files("evalkit.training").joinpath("recipes")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    built_in = [parse(f.read_text(encoding="utf-8"), f.name) for f in files]
    return {f"{recipe.method}-{recipe.name}": recipe for recipe in built_in}


def trainable() -> list[str]:
    """Methods that have recipes."""
    return sorted({recipe.method for recipe in recipes().values()}, key=str.casefold)


def load_recipe(method: str, name: str = "small", variant: str = "") -> Recipe:
    """A method's recipe by name (paper, small), or from a YAML file.

    Args:
        method: in any case.
        name: of a built-in recipe, or the path of a file that ends in .yaml or .yml.
        variant: a row of the paper's ablation.

    Raises:
        UnknownNameError: a method without recipes, a name that the method has no recipe of, an unknown variant.
        DataError: a file that cannot be read or is not a recipe of this method.
    """
    methods = {known.casefold(): known for known in trainable()}
    if method.casefold() not in methods:
        raise UnknownNameError("trainable method", method, methods.values())
    method = methods[method.casefold()]
    if name.endswith((".yaml", ".yml")):
        try:
            text = read_text(name)
        except DataError as error:
            raise DataError(f"cannot read the recipe {name}: {error}") from None
        recipe = parse(text, name)
        if recipe.method.casefold() != method.casefold():
            raise DataError(f"{name} is a recipe for {recipe.method}, not for {method}.")
        return _varied(recipe, variant)
    own = {recipe.name: recipe for recipe in recipes().values() if recipe.method == method}
    if name not in own:
        raise UnknownNameError(f"recipe of {method}", name, own, "A file of your own ends in .yaml.")
    return _varied(own[name], variant)


def label(recipe: Recipe) -> str:
    """How a record names a recipe: by its name only where it is the built-in one of that name."""
    own = recipes().get(f"{recipe.method}-{recipe.name}")
    same = own and _varied(own, recipe.variant)
    if same and same.hash == recipe.hash:
        return recipe.name
    if same and same.model_copy(update={"data": recipe.data}).hash == recipe.hash:
        return f"{recipe.name} on {', '.join(recipe.data.datasets)}"
    return f"{recipe.name} of one's own ({recipe.hash[:8]})"


def _varied(recipe: Recipe, variant: str) -> Recipe:
    if not variant:
        return recipe
    from evalkit.training.system import system_class  # needs torch, without which recipes can be listed

    return system_class(recipe.method).varied(recipe.model_copy(update={"variant": variant}))


def parse(text: str, where: str) -> Recipe:
    """A recipe from YAML text. Raises DataError naming field and mistake."""
    return model_from_yaml(Recipe, text, f"the recipe {where}")
