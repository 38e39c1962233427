"""Small data sets as label tools write them, made from synthetic people: what each form keeps, and how it spells it."""

import csv
import json
import shutil
from pathlib import Path

import yaml

from psa_pose.skeleton import COCO

NAMES, LIMBS = list(COCO.names), [[a + 1, b + 1] for a, b in COCO.limb_pairs]


def people_of(people: Path) -> dict:
    """The annotation file of the small test split: persons with three labelled keypoints or more."""
    content = json.loads((people / "annotations/person_keypoints_val2017.json").read_text())
    content["annotations"] = [a for a in content["annotations"] if a["num_keypoints"] >= 3 and not a["iscrowd"]]
    return content


def copy_pictures(people: Path, folder: Path, names=None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((people / "val2017").iterdir()):
        if names is None or path.name in names:
            shutil.copy(path, folder / path.name)


def by_image(content: dict) -> list[tuple[dict, list[dict]]]:
    rows = [(i, [a for a in content["annotations"] if a["image_id"] == i["id"]]) for i in content["images"]]
    return rows


def labelled(annotation: dict) -> list[tuple[str, float, float, int]]:
    """Name, x, y and visibility of each labelled keypoint."""
    numbers = annotation["keypoints"]
    points = zip(NAMES, numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    return [point for point in points if point[3] > 0]


def around(annotation: dict) -> list[float]:
    """The box that ends at the outermost labelled keypoints."""
    _, xs, ys, _ = zip(*labelled(annotation), strict=True)
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def write(path: Path, content: object, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding=encoding)
    return path


def category(**changes: object) -> dict:
    return {"id": 1, "name": "person", "supercategory": "", "keypoints": NAMES, "skeleton": LIMBS, **changes}


def cvat(people: Path, root: Path) -> Path:
    """COCO Keypoints 1.0: boxes of the points, their area, attributes; points outside keep coordinates with v = 0."""
    content = people_of(people)
    copy_pictures(people, root / "images/default")
    rows = []
    for row in content["annotations"]:
        box = around(row)
        points = [n if n or v else 7.5 for n, v in zip(row["keypoints"], _thirds(row["keypoints"]), strict=True)]
        points[2::3] = row["keypoints"][2::3]
        rows.append(
            {
                **{key: row[key] for key in ("id", "image_id", "category_id", "num_keypoints")},
                **{"segmentation": [], "iscrowd": 0, "attributes": {"occluded": False, "track_id": 0}},
                **{"keypoints": points, "bbox": box, "area": round(box[2] * box[3], 4)},
            }
        )
    images = [{**i, "license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0} for i in content["images"]]
    info = {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""}
    licenses = [{"name": "", "id": 0, "url": ""}]
    path = root / "annotations/person_keypoints_default.json"
    write(path, {"licenses": licenses, "info": info, "categories": [category()], "images": images, "annotations": rows})
    return root


def _thirds(numbers: list) -> list:
    return [v for v in numbers[2::3] for _ in range(3)]


def coco_annotator(people: Path, root: Path) -> Path:
    """Its own keys in images, a path from within its container, ids as they come, boxes and areas of 0."""
    content = people_of(people)
    copy_pictures(people, root)
    images = [
        {**i, "id": 600 + i["id"], "dataset_id": 5, "category_ids": [], "path": f"/datasets/p/{i['file_name']}"}
        for i in content["images"]
    ]
    rows = [
        {
            **{"id": 40 + n, "image_id": 600 + row["image_id"], "category_id": 9, "color": "#1caad8", "metadata": {}},
            **{"segmentation": [], "area": 0, "bbox": [0, 0, 0, 0], "iscrowd": False, "isbbox": False},
            **{"keypoints": row["keypoints"], "num_keypoints": row["num_keypoints"]},
        }
        for n, row in enumerate(content["annotations"])
    ]
    categories = [category(id=9, color="#e0", keypoint_colors=["#bf5c4d"] * 17, skeleton=[*LIMBS, [3, 40]])]
    return write(root / "p-1.json", {"images": images, "categories": categories, "annotations": rows})


def roboflow(people: Path, root: Path) -> Path:
    """A folder for each split; ids from 0; category 0 is a heading; augmented copies of one original."""
    content = people_of(people)
    pairs = by_image(content)
    for split, chosen in (("train", pairs[:5]), ("valid", pairs[5:7]), ("test", pairs[7:])):
        images, rows = [], []
        for image, annotations in chosen:
            for copy in range(2):
                stem = image["file_name"].removesuffix(".jpg")
                name = f"{stem}_jpg.rf.{copy:032x}.jpg"
                (root / split).mkdir(parents=True, exist_ok=True)
                shutil.copy(people / "val2017" / image["file_name"], root / split / name)
                images.append({**image, "id": len(images), "file_name": name, "extra": {"name": image["file_name"]}})
                rows += [
                    {
                        **{"id": len(rows) + n, "image_id": len(images) - 1, "category_id": 1, "iscrowd": 0},
                        **{"bbox": row["bbox"], "area": row["bbox"][2] * row["bbox"][3], "segmentation": []},
                        "keypoints": row["keypoints"],
                    }
                    for n, row in enumerate(annotations)
                ]
        heading = {"id": 0, "name": "people", "supercategory": "none"}
        info = {"year": "2024", "description": "Exported from roboflow.com"}
        categories = [heading, category(supercategory="people")]
        write(
            root / split / "_annotations.coco.json",
            {"info": info, "categories": categories, "images": images, "annotations": rows},
        )
    return root


def sleap(people: Path, root: Path) -> Path:
    """No info; visibility 0 and 1; the box of the points and its area; names of a video's frames; sizes of 0."""
    content = people_of(people)
    root.mkdir(parents=True)
    for n, image in enumerate(content["images"]):
        name = f"session{n // 4}_frame_{n:06d}.jpg"
        shutil.copy(people / "val2017" / image["file_name"], root / name)
        image |= {"file_name": name, "width": 0, "height": 0}
    rows = [
        {
            **{"id": n, "image_id": row["image_id"], "category_id": 1, "iscrowd": 0, "bbox": around(row)},
            **{"keypoints": [float(v) for v in row["keypoints"]], "num_keypoints": row["num_keypoints"]},
            "area": around(row)[2] * around(row)[3],
        }
        for n, row in enumerate(content["annotations"], start=1)
    ]
    for row in rows:
        row["keypoints"][2::3] = [int(v > 0) for v in row["keypoints"][2::3]]
    categories = [{"id": 1, "name": "fly", "keypoints": NAMES, "skeleton": LIMBS}]
    return write(root / "labels.json", {"images": content["images"], "annotations": rows, "categories": categories})


def label_studio_coco(people: Path, root: Path) -> Path:
    """Ids from 0; one annotation of all keypoints of an image, without area; rectangles as annotations of their own."""
    content = people_of(people)
    copy_pictures(people, root / "images")
    images, rows = [], []
    for image, annotations in by_image(content):
        images.append({**image, "id": len(images), "file_name": f"images\\{image['file_name']}"})
        for row in annotations:
            rows.append(
                {
                    **{"id": len(rows), "image_id": len(images) - 1, "category_id": 0, "segmentation": []},
                    **{"bbox": row["bbox"], "ignore": 0, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]},
                }
            )
        for row in annotations[-1:]:
            rows.append(
                {
                    **{"id": len(rows), "image_id": len(images) - 1, "category_id": 1, "bbox": around(row)},
                    **{"keypoints": [round(v) for v in row["keypoints"]], "num_keypoints": row["num_keypoints"]},
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 0, "name": "person"}, category(name="default", supercategory="default", skeleton=[])]
    info = {"year": 2025, "version": "1.0", "contributor": "Label Studio"}
    return write(root / "result.json", {"images": images, "categories": categories, "annotations": rows, "info": info})


def label_studio(people: Path, root: Path) -> Path:
    """Tasks with regions in percent; points name the rectangle that they belong to; uploads have a prefix."""
    copy_pictures(people, root)
    tasks = []
    for image, annotations in by_image(people_of(people)):
        width, height = image["width"], image["height"]
        shared = {"original_width": width, "original_height": height, "image_rotation": 0, "to_name": "image"}
        result = []
        for n, row in enumerate(annotations):
            x, y, w, h = row["bbox"]
            value = {"x": 100 * x / width, "y": 100 * y / height, "width": 100 * w / width, "height": 100 * h / height}
            region = {"type": "rectanglelabels", "value": {**value, "rotation": 0, "rectanglelabels": ["person"]}}
            result.append({"id": f"region{n}", **shared, **region})
            for name, px, py, _ in labelled(row):
                value = {"x": 100 * px / width, "y": 100 * py / height, "width": 0.3, "keypointlabels": [name]}
                point = {"id": f"{n}{name}", "type": "keypointlabels", "parentID": f"region{n}", "value": value}
                result.append({**shared, **point})
        data = {"image": f"/data/upload/1/0a1b2c3d-{image['file_name']}"}
        tasks.append({"id": image["id"], "data": data, "annotations": [{"was_cancelled": False, "result": result}]})
    return write(root / "project-1.json", tasks)


def labelme(people: Path, root: Path) -> Path:
    """A file for each picture; group_id joins points and rectangle; backslashes in imagePath; a byte order mark."""
    copy_pictures(people, root / "pictures")
    for image, annotations in by_image(people_of(people)):
        shapes = []
        for group, row in enumerate(annotations):
            x, y, w, h = row["bbox"]
            shared = {"group_id": group, "description": "", "mask": None}
            corners = [[x + w, y + h], [x, y]]
            shapes.append({"label": "person", "points": corners, "shape_type": "rectangle", "flags": {}, **shared})
            for name, px, py, v in labelled(row):
                flags = {"occluded": v == 1}
                shapes.append({"label": name, "points": [[px, py]], "shape_type": "point", "flags": flags, **shared})
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imageData": None}
        content["imagePath"] = f"..\\pictures\\{image['file_name']}"
        content |= {"imageHeight": image["height"], "imageWidth": image["width"]}
        write(root / f"json/{Path(image['file_name']).stem}.json", content, "utf-8-sig")
    return root


def yolo(people: Path, root: Path, visibility: bool = True) -> Path:
    """images/ and labels/ of train and val, fractions, and a data.yaml with Roboflow's ../ in it."""
    pairs = by_image(people_of(people))
    for split, chosen in (("train", pairs[:5]), ("val", pairs[5:])):
        copy_pictures(people, root / "images" / split, [image["file_name"] for image, _ in chosen])
        (root / "labels" / split).mkdir(parents=True)
        for image, annotations in chosen:
            lines = [" ".join(f"{v:.8g}" for v in _yolo_line(image, row, visibility)) for row in annotations]
            path = root / "labels" / split / f"{Path(image['file_name']).stem}.txt"
            path.write_text("\n".join(lines) + "\n")
    data = {"train": "../images/train", "val": "../images/val", "names": {0: "person"}}
    data |= {"kpt_shape": [17, 3 if visibility else 2], "flip_idx": COCO.flip_order.tolist()}
    (root / "data.yaml").write_text(yaml.safe_dump(data))
    return root


def _yolo_line(image: dict, row: dict, visibility: bool) -> list[float]:
    (x, y, w, h), width, height = row["bbox"], image["width"], image["height"]
    line = [0, (x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    numbers = row["keypoints"]
    for px, py, v in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        line += [px / width, py / height, *([v] if visibility else [])]
    return line


def deeplabcut(people: Path, root: Path, animals: int = 0) -> Path:
    """labeled-data/<video>/CollectedData_<scorer>.csv; with `animals`, individuals and paths in three cells."""
    (root / "labeled-data").mkdir(parents=True)
    pairs = by_image(people_of(people))
    for video, chosen in (("a", pairs[:4]), ("b", pairs[4:])):
        copy_pictures(people, root / "labeled-data" / video, [image["file_name"] for image, _ in chosen])
        columns = [(f"m{n}" if animals else "", name, c) for n in range(animals or 1) for name in NAMES for c in "xy"]
        columns += [("single", "corner", c) for c in "xy"] if animals else []
        lead = ["", ""] if animals else []
        table = [["scorer", *lead, *["me"] * len(columns)]]
        table += [["individuals", *lead, *[c[0] for c in columns]]] if animals else []
        table += [["bodyparts", *lead, *[c[1] for c in columns]], ["coords", *lead, *[c[2] for c in columns]]]
        for image, annotations in chosen:
            cells = []
            for n in range(animals or 1):
                points = {p[0]: p[1:3] for p in labelled(annotations[n])} if n < len(annotations) else {}
                cells += [points[name][i] if name in points else "" for name in NAMES for i in range(2)]
            cells += [3, 4] if animals else []
            path = ["labeled-data", video, image["file_name"]]
            table.append([*(path if animals else ["/".join(path)]), *cells])
        with open(root / f"labeled-data/{video}/CollectedData_me.csv", "w", newline="") as file:
            csv.writer(file).writerows(table)
    skeleton = {"skeleton": [["nose", "left_eye"], ["nose", "unknown"]], "scorer": "me"}
    (root / "config.yaml").write_text(yaml.safe_dump(skeleton))
    return root


FORMS = {
    "cvat": cvat,
    "coco_annotator": coco_annotator,
    "roboflow": roboflow,
    "sleap": sleap,
    "label_studio_coco": label_studio_coco,
    "label_studio": label_studio,
    "labelme": labelme,
    "yolo": yolo,
    "yolo_without_visibility": lambda people, root: yolo(people, root, visibility=False),
    "deeplabcut": deeplabcut,
    "deeplabcut_animals": lambda people, root: deeplabcut(people, root, animals=3),
}
