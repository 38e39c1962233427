"""Random small evaluations of the kinds that go wrong: what engines are compared on."""

import numpy as np

from psa_pose.skeleton import COCO


def adversarial_case(seed: int, sigmas=COCO.sigmas) -> tuple[dict, list[dict]]:
    """Truth and results: crowds, persons without a label, without area, tied scores and similarities, empty images,
    more than 20 found, one person only, nobody at all, entries out of order, image ids out of order."""
    rng = np.random.default_rng(seed)
    K = len(sigmas)
    image_ids = rng.permutation(1000)[: rng.integers(1, 7)].tolist()
    annotations, results = [], []
    for image_id in image_ids:
        people = [0, 1, 1, 2, 5, 12][rng.integers(6)]
        if len(image_ids) == 1 and seed % 3 == 0:
            people = 1
        mine = [_person(rng, image_id, K) for _ in range(people)]
        if len(mine) > 1 and rng.random() < 0.3:
            mine[1] = {**mine[0], "iscrowd": int(rng.random() < 0.5)}
        annotations += mine
        found = [0, 1, 3, 10, 22, 40][rng.integers(6)]
        for _ in range(found):
            results.append(_answer(rng, image_id, mine, K))
    for number, annotation in enumerate(annotations):
        annotation["id"] = 3 * number + 1
    rng.shuffle(results)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in image_ids]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    return truth, results


def _person(rng, image_id, K):
    visible = rng.integers(0, 3, K) * (rng.random(K) < rng.choice([0.0, 0.2, 0.8, 1.0], p=[0.15, 0.2, 0.35, 0.3]))
    size = rng.choice([20, 60, 200])
    box = [*rng.uniform(0, 400, 2).round(2), *(rng.uniform(0.5, 1.5, 2) * size).round(2)]
    joints = (np.array(box[:2]) + rng.random((K, 2)) * box[2:]).astype(int) * (visible > 0)[:, None]
    area = [box[2] * box[3] * 0.6, 0, 32**2, 96**2][rng.choice(4, p=[0.85, 0.05, 0.05, 0.05])]
    return {
        "image_id": image_id,
        "category_id": 1,
        "bbox": [float(v) for v in box],
        "area": float(area),
        "iscrowd": int(rng.random() < 0.1),
        "keypoints": np.concatenate([joints, visible[:, None]], 1).ravel().tolist(),
        "num_keypoints": int((visible > 0).sum()),
    }


def _answer(rng, image_id, people, K):
    if people and rng.random() < 0.8:
        person = people[rng.integers(len(people))]
        joints = np.array(person["keypoints"], float).reshape(K, 3)[:, :2]
        spread = rng.choice([0, 0.02, 0.05, 0.2]) * np.sqrt(person["area"])
        joints = joints + rng.normal(size=(K, 2)) * spread
    else:
        joints = rng.uniform(0, 500, (K, 2))
    score = rng.choice([float(rng.random()), 0.5, 0.25, 1.0, 0.0])
    keypoints = np.concatenate([joints.round(2), rng.random((K, 1)).round(3)], 1)
    return {"image_id": image_id, "category_id": 1, "keypoints": keypoints.ravel().tolist(), "score": float(score)}


def scene(people, answers, size=(400, 400)) -> tuple[dict, list[dict]]:
    """Truth and results from arrays: people [(image_id, joints (K, 2), area)], answers [(image_id, joints, score)].

    The box of a person is that around its joints.
    """
    annotations = [
        {
            "id": number,
            "image_id": image_id,
            "category_id": 1,
            "bbox": [*joints.min(0).tolist(), *np.ptp(joints, axis=0).tolist()],
            "area": float(area),
            "iscrowd": 0,
            "keypoints": np.concatenate([joints, np.full((len(joints), 1), 2)], 1).ravel().tolist(),
            "num_keypoints": len(joints),
        }
        for number, (image_id, joints, area) in enumerate(people, start=1)
    ]
    results = [
        {
            "image_id": image_id,
            "category_id": 1,
            "keypoints": np.concatenate([joints, np.ones((len(joints), 1))], 1).ravel().tolist(),
            "score": float(score),
        }
        for image_id, joints, score in answers
    ]
    ids = sorted({p[0] for p in people} | {a[0] for a in answers})
    images = [{"id": i, "file_name": f"{i}.jpg", "width": size[0], "height": size[1]} for i in ids]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}, results
