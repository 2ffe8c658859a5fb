"""Scenes as Mitsuba objects: shapes, materials, lights, in a fixed order.

Axes: H height, W width (pixels).
"""

from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np

from dav2.rendering.mesh import merge
from dav2.rendering.scene import Light, Material, Part, Scene, Sky, View


@dataclass(frozen=True, slots=True, eq=False)
class LoadedScene:
    """A scene as Mitsuba holds it, with what each of its shapes was made from."""

    handle: Any
    shapes: tuple[Any, ...]
    """Mitsuba's shapes, in its order."""
    sources: tuple[Part | None, ...]
    """What each shape was made from; None: the lights."""
    entities: tuple[int, ...]
    """Number of the object that each shape belongs to."""


def mitsuba() -> Any:
    """Returns the module `mitsuba` with the one supported variant, on one thread.

    Work is spread by processes: threads inside a render would only compete with them.
    """
    import drjit
    import mitsuba as module

    if module.variant() != "scalar_rgb":
        module.set_variant("scalar_rgb")
        drjit.set_thread_count(1)
        module.set_log_level(module.LogLevel.Error)
    return module


def load_scene(scene: Scene, *, without_panes: bool = False) -> LoadedScene:
    """Returns a scene ready to be rendered.

    Shapes are created one by one and handed over finished: `load_dict` would create them in an
    order of its own. All lights form one mesh for the same reason (its emitters' order decides
    which light a random number picks).

    Args:
        scene: What to load.
        without_panes: Leave out sheets of glass.
    """
    mi = mitsuba()
    shapes: list[Any] = []
    sources: list[Part | None] = []
    entities: list[int] = []
    bsdfs: dict[int, Any] = {}
    for entity, parts in enumerate(scene.objects):
        for part in parts:
            if without_panes and part.material.finish == "pane":
                continue
            bsdf = bsdfs.get(id(part.material))
            if bsdf is None:
                bsdf = bsdfs[id(part.material)] = _bsdf(mi, part.material)
            shapes.append(_shape(mi, part, bsdf))
            sources.append(part)
            entities.append(entity)
    if scene.lights:
        shapes.append(_lights(mi, scene.lights))
        sources.append(None)
        entities.append(len(scene.objects))
    content: dict[str, Any] = {"type": "scene"}
    content.update({f"shape{order:05d}": shape for order, shape in enumerate(shapes)})
    if scene.sky is not None:
        content.update(_sky(mi, scene.sky))
    return LoadedScene(
        handle=mi.load_dict(content, parallel=False),
        shapes=tuple(shapes),
        sources=tuple(sources),
        entities=tuple(entities),
    )


def has_panes(scene: Scene) -> bool:
    """Returns whether there is a sheet of glass in a scene."""
    return any(part.material.finish == "pane" for parts in scene.objects for part in parts)


def load_sensor(view: View, *, height: int, width: int, samples: int, near_m: float = 0.01) -> Any:
    """Returns a camera whose film has a box filter, as denoising needs.

    Args:
        view: Where it stands.
        height: Pixels.
        width: Pixels.
        samples: Rays for each pixel.
        near_m: Where its rays start; no depth may depend on it.
    """
    mi = mitsuba()
    right, up, forward = view.axes()
    # Mitsuba's camera looks along +z with +x to the left.
    frame = np.eye(4)
    frame[:3, :4] = np.stack([-right, up, forward, view.eye], axis=1)
    return mi.load_dict(
        {
            "type": "perspective",
            "fov": view.fov_deg,
            "fov_axis": "x",
            "near_clip": near_m,
            "far_clip": 1e5,
            "to_world": mi.ScalarTransform4f(frame),
            "sampler": {"type": "multijitter", "sample_count": samples},
            "film": {
                "type": "hdrfilm",
                "width": width,
                "height": height,
                "rfilter": {"type": "box"},
                "pixel_format": "rgb",
            },
        }
    )


def _shape(mi: Any, part: Part, bsdf: Any) -> Any:
    properties = mi.Properties()
    properties["bsdf"] = bsdf
    return _mesh(mi, part, properties)


def _mesh(mi: Any, part: Part | Light, properties: Any) -> Any:
    mesh = part.mesh
    shape = mi.Mesh(
        "mesh",
        vertex_count=len(mesh.vertices),
        face_count=len(mesh.faces),
        has_vertex_normals=True,
        has_vertex_texcoords=True,
        props=properties,
    )
    tile_m = part.material.tile_m if isinstance(part, Part) else 1.0
    # The first row of a texture is its top, v points up.
    uv = mesh.uv * np.array([1.0, -1.0]) / tile_m
    values = mi.traverse(shape)
    values["vertex_positions"] = mesh.vertices.astype(np.float32).ravel()
    values["vertex_normals"] = mesh.normals.astype(np.float32).ravel()
    values["vertex_texcoords"] = uv.astype(np.float32).ravel()
    values["faces"] = mesh.faces.astype(np.uint32).ravel()
    values.update()
    return shape


def _texture(mi: Any, material: Material) -> dict[str, Any]:
    if material.colour.ndim == 1:
        return {"type": "rgb", "value": [float(value) for value in material.colour]}
    bitmap = mi.Bitmap(np.ascontiguousarray(material.colour, dtype=np.float32))
    return {"type": "bitmap", "bitmap": bitmap, "raw": True}


def _bsdf(mi: Any, material: Material) -> Any:
    texture = _texture(mi, material)
    bsdf: dict[str, Any]
    match material.finish:
        case "matte":
            bsdf = {"type": "diffuse", "reflectance": texture}
        case "plastic":
            bsdf = {"type": "plastic", "diffuse_reflectance": texture}
        case "satin":
            bsdf = {
                # `roughplastic` would integrate its own tables for 50 ms.
                "type": "principled",
                "base_color": texture,
                "roughness": material.roughness,
                "specular": 0.5,
            }
        case "metal":
            bsdf = {
                "type": "roughconductor",
                "specular_reflectance": texture,
                "alpha": material.roughness,
            }
        case "mirror":
            bsdf = {"type": "conductor", "specular_reflectance": texture}
        case "glass":
            return mi.load_dict({"type": "dielectric", "specular_transmittance": texture})
        case "pane":
            return mi.load_dict({"type": "thindielectric", "specular_transmittance": texture})
        case _:
            assert_never(material.finish)
    return mi.load_dict({"type": "twosided", "bsdf": bsdf})


def _lights(mi: Any, lights: list[Light]) -> Any:
    """Returns one mesh of all lights; each has its cell of a texture of radiances."""
    num = len(lights)
    radiance = np.stack([light.radiance for light in lights])[None].astype(np.float32)
    meshes = []
    for index, light in enumerate(lights):
        uv = np.broadcast_to([(index + 0.5) / num, 0.5], light.mesh.uv.shape)
        mesh = light.mesh
        meshes.append(type(mesh)(mesh.vertices, mesh.normals, np.array(uv), mesh.faces))
    texture = {
        "type": "bitmap",
        "bitmap": mi.Bitmap(np.ascontiguousarray(radiance)),
        "raw": True,
        "filter_type": "nearest",
    }
    properties = mi.Properties()
    properties["emitter"] = mi.load_dict({"type": "area", "radiance": texture})
    return _mesh(mi, Light(merge(meshes), lights[0].radiance), properties)


def _sky(mi: Any, sky: Sky) -> dict[str, Any]:
    upright = mi.ScalarTransform4f().rotate([1, 0, 0], 90)
    panorama = mi.Bitmap(np.ascontiguousarray(sky.panorama, dtype=np.float32))
    content = {"sky": {"type": "envmap", "bitmap": panorama, "to_world": upright}}
    if sky.sun_direction is not None and sky.sun_irradiance is not None:
        content["sun"] = {
            "type": "directional",
            "direction": [float(-value) for value in sky.sun_direction],
            "irradiance": {"type": "rgb", "value": [float(value) for value in sky.sun_irradiance]},
        }
    return content
