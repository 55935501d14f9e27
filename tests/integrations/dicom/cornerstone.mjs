// Reads a DICOM-SEG as OHIF does, by Cornerstone3D's adapters, and prints the label of each voxel of each image.
// Arguments: the segmentation, then the images of its series in the order of slices.
import { readFileSync } from "node:fs";
import { adaptersSEG } from "@cornerstonejs/adapters";
import { metaData } from "@cornerstonejs/core";
import { data } from "dcmjs";

const numbers = (value) => [value].flat().map(Number);

function read(file) {
  const bytes = readFileSync(file);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  return { buffer, set: data.DicomMetaDictionary.naturalizeDataset(data.DicomMessage.readFile(buffer).dict) };
}

function describe(kind, set) {
  const orientation = numbers(set.ImageOrientationPatient);
  const size = { rows: set.Rows, columns: set.Columns };
  switch (kind) {
    case "instance":
      return set;
    case "generalImageModule":
    case "sopCommonModule":
      return { sopInstanceUID: set.SOPInstanceUID, sopClassUID: set.SOPClassUID };
    case "generalSeriesModule":
      return { seriesInstanceUID: set.SeriesInstanceUID, studyInstanceUID: set.StudyInstanceUID, modality: set.Modality };
    case "imagePixelModule":
      return { ...size, bitsAllocated: 16, bitsStored: 16, highBit: 15, samplesPerPixel: 1, pixelRepresentation: 1 };
    case "imagePlaneModule":
      return {
        ...size,
        imageOrientationPatient: orientation,
        rowCosines: orientation.slice(0, 3),
        columnCosines: orientation.slice(3),
        imagePositionPatient: numbers(set.ImagePositionPatient),
        pixelSpacing: numbers(set.PixelSpacing),
        frameOfReferenceUID: set.FrameOfReferenceUID,
      };
  }
}

async function main([segmentation, ...images]) {
  const sets = Object.fromEntries(images.map((file) => [`file:${file}`, read(file).set]));
  const provider = { get: (kind, id) => sets[id] && describe(kind, sets[id]) };
  metaData.addProvider(provider.get, 10000);
  const ids = Object.keys(sets);
  const found = await adaptersSEG.Cornerstone3D.Segmentation.generateToolState(ids, read(segmentation).buffer, provider);
  const maps = found.labelMapImages.flat();
  const labels = ids.map((id) => Array.from(maps.find((map) => map.referencedImageId === id).voxelManager.getScalarData()));
  const names = found.segMetadata.data.filter(Boolean).map((segment) => segment.SegmentLabel);
  console.log(JSON.stringify({ labels, names }));
}

main(process.argv.slice(2));
